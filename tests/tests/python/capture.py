"""Writes every frame on the loopback interface to a file, until standard input ends. Needs CAP_NET_RAW.

Prints "capturing" once it does, and at the end the number of frames that the kernel has dropped.
"""

import select
import socket
import struct
import sys

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_STATISTICS = 6
BUFFER_BYTES = 256 * 1024 * 1024


def main() -> None:
    """Captures into the file that the first argument names."""
    capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    # SO_RCVBUFFORCE: beyond the system's limit, which CAP_NET_ADMIN allows; without it, what the system gives.
    for option in (33, socket.SO_RCVBUF):
        try:
            capture.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
            break
        except PermissionError:
            continue
    capture.bind(("lo", 0))
    with open(sys.argv[1], "wb") as out:
        print("capturing", flush=True)
        while True:
            ready, _, _ = select.select([capture, sys.stdin], [], [])
            if capture in ready:
                out.write(capture.recv(1 << 17))
            elif sys.stdin in ready and not sys.stdin.buffer.read(1):
                break
    dropped = struct.unpack("II", capture.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
    print(dropped, flush=True)


main()
