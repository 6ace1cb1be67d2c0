"""The volumes of pods on their node: made, kept current, mounted into containers, taken away.

`manager.py` is the face; `payload.py` says which files a ConfigMap, Secret, downward API or projected volume consists of (pure),
`persistent.py` finds the directory behind a claim,
`atomic.py` puts them on disk in one step, `hostpath.py` and `subpath.py` guard what leads out of a volume, `tokens.py` asks for
service-account tokens, `mounting.py` has the system calls.
"""

from minik8s.kubelet.volumes.manager import MountFailed, Volumes

__all__ = ["MountFailed", "Volumes"]
