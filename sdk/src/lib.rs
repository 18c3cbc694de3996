//! The client: enrol, propose, submit, evaluate, listen.
