//! Wire messages of Souk, generated from .proto files, and their conversions.
