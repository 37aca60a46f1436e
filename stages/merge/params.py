"""The section `merge` of params.yaml: the size at which each source's pixels are stored."""

from typing import Annotated, Any

from pydantic import Field

from stages.contracts.sections import Section

Side = Annotated[int, Field(ge=8, le=2048)]


class StoreSize(Section):
    """Height and width of every image of one pixel store, pixels."""

    height: Side
    width: Side


class MergeParams(Section):
    """Larger BreakHis images are reduced to fit, smaller images of either source are padded by reflection."""

    breakhis: StoreSize
    idc: StoreSize


SECTIONS: dict[str, Any] = {"merge": MergeParams}
