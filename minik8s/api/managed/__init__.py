"""Server-side apply and metadata.managedFields, as pure functions over plain objects (KEP-555).

- `ownership`: `apply` and `update`, what a request does to an object and to the managers of its fields.
- `entries`: the managedFields themselves; `migration`: from client-side apply.
- `walks`: compare, merge, remove; `shapes`: what is a leaf, and what names an item; `fields`: sets of fields.
- `resets`: which fields nobody owns on which path.

Knows `errors`, `kind`, `names`, `schema`. Limits: a change of a type from atomic to granular, or back, is not followed in old entries.
"""
