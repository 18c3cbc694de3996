//! Connections: TLS settings, gRPC servers and channels, HTTPS servers and clients.
