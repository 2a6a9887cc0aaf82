"""Keep files equal to what kubectl and jq say."""

__version__ = "0.1.0"
