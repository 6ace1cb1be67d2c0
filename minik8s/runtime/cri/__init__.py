"""Containers through any CRI socket: `runtime` is the contract's side, `supervise` a containerd of our own.

Imports grpc, so it is imported late.
"""

import os

# Before grpc is imported: else each program that the agent starts costs a line on stderr.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
