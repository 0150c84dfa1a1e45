"""The records that users declare, one file a kind: the record and its document item. Pure."""
