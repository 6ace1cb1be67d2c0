"""etcd's room: revisioned keys and one stream of changes. `open_store` opens the kind that an endpoint names."""
