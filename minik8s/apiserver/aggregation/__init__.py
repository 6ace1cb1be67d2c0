"""API aggregation: group versions that other servers answer for, behind this one (the kube-aggregator of upstream).

An APIService names a group version and the Service that answers for it. `routes.py` reads it, `availability.py` judges whether the
Service can answer, `aggregation.py` keeps both current and tells the catalogue, `proxy.py` passes requests on as their user,
`documents.py` merges what the others serve into discovery and OpenAPI. `registration.py` has the APIServices of what this server
itself serves, `trust.py` what the others need to know to believe it.

Nothing here costs a request anything while all APIServices are local. Source: the Kubernetes documentation, "API Aggregation Layer".
"""
