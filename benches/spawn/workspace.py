"""The workspace of the spawn benchmark: tells when it began to accept, then answers everything with 200.

    workspace.py SOCKET STAMP      STAMP gets the time on the clock that all processes share (CLOCK_MONOTONIC, ns),
                                and the process that is to be ended afterwards"""
import os, socket, sys, time

path, stamp = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(64)
accepting = time.monotonic_ns()
with open(stamp + ".new", "w") as out:
    out.write(f"{accepting} {os.getpid()}")
os.rename(stamp + ".new", stamp)
while True:
    connection, _ = listener.accept()
    if connection.recv(65536):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    connection.close()
