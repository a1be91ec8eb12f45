"""The device's side: receive operations, decide on them, hand out changes."""
