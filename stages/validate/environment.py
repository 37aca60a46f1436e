"""What Great Expectations must find in the process before it is imported."""

import logging
import os
import time
import warnings


def settle() -> None:
    """Switch off its analytics and its chatter, and fix the time zone that its pages show.

    TZ must stand before the import: the pages' times are taken in local time, and a time zone is no reason for other
    bytes.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["TZ"] = "UTC"
    time.tzset()
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="great_expectations")
