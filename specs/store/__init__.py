"""etcd: the client, the layout of keys, allocation of numbers, and a writer for each kind of record."""
