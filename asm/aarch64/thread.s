// The runtime's words in each thread's static TLS: the table pointer, initially the live table, and the thread's
// record, initially none. src/platform/os/linux/thread.rs gives them their types.
    .section .tdata, "awT", %progbits
    .p2align 4
    .globl midflight_thread
    .hidden midflight_thread
    .type midflight_thread, %tls_object
    .size midflight_thread, 16
midflight_thread:
    .quad {live}
    .quad 0
    .text
