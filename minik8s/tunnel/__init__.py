"""The agents' standing line to the servers: many streams, both ways, over one connection that the agent dials.

frames.py      what goes over the wire (pure)
mux.py         streams over one connection, with flow control
transport.py   a stream as an asyncio transport, so that aiohttp serves and asks over it
server.py      `Tunnels`: opens streams to agents by node name
agent.py       `Line`: dials, keeps the connection, serves what is asked for
"""
