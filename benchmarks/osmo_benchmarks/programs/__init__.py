"""What this project puts beside the programs of the peers, where its own services are not what is
measured: an acknowledging server, a client that counts, a handler that waits."""
