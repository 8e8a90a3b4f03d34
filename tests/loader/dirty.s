# What a careless loader leaves behind: every register that the protocols leave undefined, and some that they do not, holds what
# a processor accepts and a hypervisor does not expect. 32-bit protected mode without paging, EAX and EBX as the loader set
# them, ESP at the end of a free page. tests/boot_loader.rs puts it before the hypervisor's entry, and a jump behind it.
.code32
.intel_syntax noprefix

.macro msr number, low, high=0
        mov ecx, \number
        mov eax, \low
        mov edx, \high
        wrmsr
.endm

        cli
        mov esi, eax
        mov edi, ebx

# An interrupt of seven vectors is requested already, four of them of exceptions; the timer goes on in periods; the other sources of the local APIC are open.
        mov ebp, 0xfee00000
        mov dword ptr [ebp + 0xf0], 0x1ff               # on, spurious vector 0xff
        mov dword ptr [ebp + 0x80], 0x30                # task priority
        mov dword ptr [ebp + 0x300], 0x44035            # to itself: 0x35, 0x7f, 0xf3
        mov dword ptr [ebp + 0x300], 0x4407f
        mov dword ptr [ebp + 0x300], 0x440f3
        mov dword ptr [ebp + 0x300], 0x44011            # 0x11, 0x15: with an error code; 0x12: machine check
        mov dword ptr [ebp + 0x300], 0x44012
        mov dword ptr [ebp + 0x300], 0x44015
        mov dword ptr [ebp + 0x300], 0x4401f
        mov dword ptr [ebp + 0x3e0], 0xb
        mov dword ptr [ebp + 0x320], 0x2003d            # timer
        mov dword ptr [ebp + 0x380], 200000
        mov dword ptr [ebp + 0x330], 0x3e               # thermal
        mov dword ptr [ebp + 0x340], 0x3f               # performance counters
        mov dword ptr [ebp + 0x350], 0x41               # LINT0
        mov dword ptr [ebp + 0x370], 0x43               # errors

# The I/O APIC passes the 8254's ticks on (inputs 0 and 2), a thousand a second.
        mov ebp, 0xfec00000
        mov dword ptr [ebp], 0x10
        mov dword ptr [ebp + 0x10], 0x39
        mov dword ptr [ebp], 0x11
        mov dword ptr [ebp + 0x10], 0
        mov dword ptr [ebp], 0x14
        mov dword ptr [ebp + 0x10], 0x3a
        mov dword ptr [ebp], 0x15
        mov dword ptr [ebp + 0x10], 0
        mov al, 0x34
        out 0x43, al
        mov al, 0xa9
        out 0x40, al
        mov al, 0x04
        out 0x40, al

# The FPU has an exception pending, and SSE's are on.
        mov eax, cr4
        or eax, 0x200
        mov cr4, eax
        mov eax, cr0
        and eax, 0xfffffff1                             # no TS, EM and MP
        mov cr0, eax
        fninit
        push 0
        fldcw word ptr [esp]
        ldmxcsr dword ptr [esp]
        fldz
        fld1
        fdivrp

# Registers of instructions and modes that the hypervisor does not use.
        msr 0xc0000081, 0x11111111, 0x11111111          # STAR
        msr 0xc0000082, 0x11111111                      # LSTAR
        msr 0xc0000083, 0x11111111                      # CSTAR
        msr 0xc0000084, 0x11111111                      # SFMASK
        msr 0xc0000100, 0x11111111                      # FS base
        msr 0xc0000101, 0x11111111                      # GS base
        msr 0xc0000102, 0x11111111                      # kernel's GS base
        msr 0x174, 0x1111                               # SYSENTER
        msr 0x175, 0x11111111
        msr 0x176, 0x11111111
        msr 0x277, 0x01010100, 0x01010101               # PAT: nothing is cached
        msr 0x1d9, 1                                    # DEBUGCTL: branches are recorded
        mov eax, 0x80000001
        cpuid
        mov ebp, edx
        test ebp, 1 << 27
        jz 1f
        msr 0xc0000103, 0x11111111                      # TSC_AUX
1:      mov ecx, 0xc0000080                             # EFER: SCE, NXE, FFXSR
        rdmsr
        or eax, 0x801
        test ebp, 1 << 25
        jz 1f
        or eax, 0x4000
1:      wrmsr

# CR4: VME, PVI, TSD, DE, PSE, PAE, PGE, PCE, OSFXSR, and what the processor has of UMIP, LA57, FSGSBASE, OSXSAVE, SMEP, SMAP, PKE.
        xor ebp, ebp
        or ebp, 0x3bf
        mov eax, 7
        xor ecx, ecx
        cpuid
        test ebx, 1 << 0
        jz 1f
        or ebp, 1 << 16
1:      test ebx, 1 << 7
        jz 1f
        or ebp, 1 << 20
1:      test ebx, 1 << 20
        jz 1f
        or ebp, 1 << 21
1:      test ecx, 1 << 2
        jz 1f
        or ebp, 1 << 11
1:      test ecx, 1 << 3
        jz 1f
        or ebp, 1 << 22
1:      test ecx, 1 << 16
        jz 1f
        or ebp, 1 << 12
1:      mov eax, 1
        xor ecx, ecx
        cpuid
        test ecx, 1 << 26
        jz 1f
        or ebp, 1 << 18
1:      mov cr4, ebp
        test ebp, 1 << 18
        jz 1f
        mov ebp, ecx
        xor ecx, ecx
        xor edx, edx
        mov eax, 3
        test ebp, 1 << 28
        jz 2f
        mov eax, 7
2:      xsetbv
1:      mov eax, cr4
        test eax, 1 << 22
        jz 1f
        xor ecx, ecx
        xor edx, edx
        mov eax, -1
        .byte 0x0f, 0x01, 0xef                          # WRPKRU

# A breakpoint on COM1, and addresses that are somebody's. Whoever touches a debug register next has a #DB (not on QEMU).
1:      mov eax, 0x3f8
        mov dr0, eax
        mov eax, 0x11111111
        mov dr1, eax
        mov dr2, eax
        mov dr3, eax
        mov eax, 0x22602
        mov dr7, eax

# The local APIC is left in x2APIC mode, where there is one.
        mov eax, 1
        xor ecx, ecx
        cpuid
        test ecx, 1 << 21
        jz 1f
        mov ecx, 0x1b
        rdmsr
        or eax, 0xc00
        wrmsr

# CR0: AM and TS, and no NE. Flags: NT, IOPL, DF, AC. Segments of the loader's own stay.
1:      mov eax, cr0
        or eax, 0x40008
        and eax, 0xffffffdf
        mov cr0, eax
        push 0x47402
        popfd
        mov eax, esi
        mov ebx, edi
