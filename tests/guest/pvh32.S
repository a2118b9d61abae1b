# pvh.S, but assembled and linked as an ELF file of class 32, as many kernels of 32 bits are.
.include "pvh.S"
