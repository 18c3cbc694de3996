//! The certificate authority: Fabric CA's REST interface.
