"""The functions of CEL and of Kubernetes, a file a library; `STANDARD` has all that every expression may call. Knows `functions`."""

from minik8s.api.cel.functions import library, merged
from minik8s.api.cel.libraries import authorizer, formats, lists, net, numbers, standard, text
from minik8s.api.cel.operators import OPERATORS

STANDARD = merged(
    OPERATORS,
    library(standard.DECLARED),
    library(text.DECLARED),
    library(lists.DECLARED),
    net.LIBRARY,
    numbers.LIBRARY,
    formats.LIBRARY,
    authorizer.LIBRARY,
)

__all__ = ["STANDARD"]
