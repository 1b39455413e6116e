//! connector-odata
