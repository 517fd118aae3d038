"""What all sections of a share's configuration have in common."""

import re

from pydantic import BaseModel, ConfigDict

_UNIT_SUFFIX = re.compile(r"_(bytes|s)$")


def option_name(field_name: str) -> str:
    """``settle_max_s`` -> ``settle_max``: the option as written in TOML."""
    return _UNIT_SUFFIX.sub("", field_name)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=option_name, validate_default=False)
