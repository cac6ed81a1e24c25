//! Decides, per request, and carries bytes: the edge, the portal and the binary.
