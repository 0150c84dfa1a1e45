"""What users declare: records, their validation, the snapshot of the store and the view of one host."""
