"""What Warren keeps in Open vSwitch's database: rows as values (pure), and the client that reads and writes them."""
