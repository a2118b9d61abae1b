/* The program that the Makefile builds of loader/init, as it is: see init_blob.h. */
	.section .rodata.init_blob, "a"
	.globl init_blob, init_blob_len
	.type init_blob, @object
	.type init_blob_len, @object
	.balign 16
init_blob:
	.incbin INIT_FILE
1:	.size init_blob, . - init_blob
	.balign 8
init_blob_len:
	.quad 1b - init_blob
	.size init_blob_len, 8

	.section .note.GNU-stack, "", @progbits
