"""Custom resources, as the front desk serves them: from CustomResourceDefinitions to rows of the catalogue, and from what is stored to what
each version shows.

    definitions.py   follows the CustomResourceDefinitions: rows, conditions, deletion          (the shell)
    status.py        what their status shall be                                                  (pure)
    collection.py    the stored objects of one custom resource, and how each version shows them
    conversion.py    from one version to another: by name only, or by a webhook
    scale.py         the scale subresource by JSON paths

Loaded with the first CustomResourceDefinition. Neighbours: `api/structural/` compiles schemas, `catalogue.py` holds the rows.
"""
