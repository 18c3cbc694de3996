//! Request-for-quotation contract.
