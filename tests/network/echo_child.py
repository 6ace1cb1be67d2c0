"""Says, over TCP and UDP on a port, its own name and who asks. Arguments: NAME PORT."""

import selectors
import socket
import sys

name, port = sys.argv[1], int(sys.argv[2])
tcp = socket.create_server(("0.0.0.0", port), backlog=64)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", port))
ready = selectors.DefaultSelector()
for one in (tcp, udp):
    ready.register(one, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in ready.select():
        if key.fileobj is tcp:
            connection, peer = tcp.accept()
            connection.sendall(f"{name} {peer[0]}".encode())
            connection.close()
        else:
            _, peer = udp.recvfrom(100)
            udp.sendto(f"{name} {peer[0]}".encode(), peer)
