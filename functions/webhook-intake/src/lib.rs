//! webhook-intake
