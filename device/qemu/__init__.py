"""The QEMU board: real OP-TEE, TF-A and Linux on an emulated Armv8 machine, built from Debian packages."""
