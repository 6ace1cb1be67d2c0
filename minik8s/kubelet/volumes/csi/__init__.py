"""Container Storage Interface on a node: drivers that run as pods provide the volumes of other pods.

`plugins.py` hears of the drivers' sockets and has them registered by `drivers.py`, which says in CSINode and Node what they said;
`volumes.py` has volumes staged, published and taken away again by them; `wanted.py` says (purely) what a pod wants of a driver.
`driver.py` has the calls, `wire.py` their messages.
Source: kubernetes-csi.github.io; KEP-178 (CSI), KEP-603 (plugin registration), KEP-596 (inline volumes), KEP-2855 (tokens).
"""
