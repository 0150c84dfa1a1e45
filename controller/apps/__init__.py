"""What ryu-manager loads."""
