//! What this machine offers, for the doctor.
