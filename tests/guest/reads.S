# Reads what arrives, as an interrupt handler does that continues until there is nothing, and does nothing else: LSR and RBR.
# The end of that must come: "wrong" after LIMIT bytes without one. Says "read" and resets at ^D.
.include "flat.inc"
.set END, 4
.set LIMIT, 256			# what Linux reads in one round of its handler
start:
	puts "ready\n"
1:	xor %ecx, %ecx
2:	mov $COM1_LSR, %edx
	in %dx, %al
	test $LSR_DR, %al
	jz 1b
	mov $COM1, %edx
	in %dx, %al
	cmp $END, %al
	je 3f
	inc %ecx
	cmp $LIMIT, %ecx
	jbe 2b
	wrong "input without an end"
3:	puts "read\n"
	reset
