"""What single parts of this project cost, without a peer beside them."""
