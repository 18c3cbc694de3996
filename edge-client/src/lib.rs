//! The edge gateway: persistent buffer, uplink, REST interface for devices.
