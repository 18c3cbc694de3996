//! Shipment tracking contract.
