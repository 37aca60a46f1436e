"""The Prefect server that stays: whether one is configured, whether it answers, and what to start if not."""

import httpx

from flows.errors import FlowError

PATIENCE_S = 3.0


def server_url() -> str | None:
    """The API's URL from Prefect's settings; None where runs would start a server of their own (the ephemeral one).

    Read from the settings, because asking Prefect's client for the kind of server starts an ephemeral one.
    """
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def unreachable(url: str) -> str | None:
    """Why the API at `url` cannot be used, in a few words; None where it answers as Prefect's does."""
    try:
        answer = httpx.get(f"{url}/health", timeout=PATIENCE_S)
    except httpx.TimeoutException:
        return f"no answer within {PATIENCE_S:g} s"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__
    if answer.status_code in (401, 403) or answer.text.strip() == "true":
        return None
    return f"HTTP {answer.status_code}, and not from a Prefect API; its URL ends in /api"


def require_server(what: str) -> str:
    """The URL of a real server that answers. `what`: the command that needs it, as the user typed it after `stroma`.

    Raises FlowError within seconds, with what to start: schedules and run limits live in a server, and an ephemeral
    one ends with the process that started it.
    """
    url = server_url()
    if url is None:
        raise FlowError(
            f"`stroma {what}` needs a Prefect server that stays, and none is configured: run `prefect server start` in "
            "another terminal and `export PREFECT_API_URL=http://127.0.0.1:4200/api` in this one"
        )
    if fault := unreachable(url):
        raise FlowError(
            f"`stroma {what}` needs the Prefect server at {url}, which cannot be used ({fault}): start it with "
            "`prefect server start`, or correct PREFECT_API_URL"
        )
    return url
