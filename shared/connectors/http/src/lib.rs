//! connector-http
