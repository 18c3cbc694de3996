//! The contract SDK: what a contract author sees.
