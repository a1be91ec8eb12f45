"""The change feed: what a device pulls, in an order that can miss nothing."""
