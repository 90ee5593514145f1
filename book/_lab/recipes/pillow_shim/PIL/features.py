"""Which of Pillow's optional parts there are: none."""

modules: dict[str, str] = {}
codecs: dict[str, str] = {}
features: dict[str, str] = {}


def check(feature: str) -> bool:
    """Return False."""
    return False


check_module = check_codec = check_feature = check


def version(feature: str) -> None:
    """Return None."""
