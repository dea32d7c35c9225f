//! Products of rows in 8 bits with the tile registers of AMX (from Sapphire Rapids on), which multiply eight to sixteen times as
//! many bytes in a cycle as AVX-512.
//!
//! A tile is 16 rows of 64 bytes. The instructions are written out, as their intrinsics are not stable.

use std::arch::asm;
use std::sync::LazyLock;

use super::byte_panel::{COLUMNS, LANES, Products, Quad, VECTORS};

/// Rows of a tile.
const ROWS: usize = 16;

/// Layout of the tile registers, as `ldtilecfg` reads it.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Eight whole tiles.
const WHOLE_TILES: Configuration = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (row_bytes[tile], rows[tile]) = (COLUMNS as u16, ROWS as u8);
        tile += 1;
    }
    Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

/// True if the processor has AMX with bytes and the system lets this process use it.
pub(super) fn is_available() -> bool {
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
        let leaf = std::arch::x86_64::__cpuid_count(7, 0);
        let has_tiles_of_bytes = leaf.edx >> 24 & 3 == 3;
        has_tiles_of_bytes && is_permitted()
    });
    *AVAILABLE
}

/// Asks the system for the tile registers, which Linux saves only for processes that asked.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let result: i64;
    // SAFETY: this system call changes nothing but what the process may use; it writes the two registers named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// See [`super::Isa::add_byte_products`]; for [`VECTORS`] vectors, where AMX [is available](is_available).
pub(super) fn add_byte_products(panel: &[Quad], vectors: &[i8], out: &mut [Products]) {
    const { assert!(LANES == 2 * ROWS && VECTORS == 2 * ROWS && COLUMNS == 64) };
    assert!(is_available());
    let width = 4 * panel.len();
    assert!(out.len() == VECTORS && vectors.len() == VECTORS * width && width.is_multiple_of(COLUMNS));
    if width == 0 {
        return;
    }
    // SAFETY: the tile registers may be used. Each step reads 64 columns of 32 vectors, which follow one another, and of 32
    // rows, and there are as many steps as both have; sums are `[32, 32]`. Tiles are released, and no other code uses them.
    unsafe {
        asm!(
            "ldtilecfg [{configuration}]",
            "tileloadd tmm0, [{out} + {out_row}]",
            "tileloadd tmm1, [{out} + {out_row} + 64]",
            "tileloadd tmm2, [{last_out} + {out_row}]",
            "tileloadd tmm3, [{last_out} + {out_row} + 64]",
            "2:",
            "tileloadd tmm4, [{vectors} + {columns}]",
            "tileloadd tmm6, [{panel} + {out_row}]",
            "tdpbsud tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{panel} + {out_row} + 64]",
            "tdpbsud tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{vectors} + {columns} + 1024]",
            "tdpbsud tmm2, tmm5, tmm6",
            "tdpbsud tmm3, tmm5, tmm7",
            "add {vectors}, 2048",
            "add {panel}, 2048",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{out} + {out_row}], tmm0",
            "tilestored [{out} + {out_row} + 64], tmm1",
            "tilestored [{last_out} + {out_row}], tmm2",
            "tilestored [{last_out} + {out_row} + 64], tmm3",
            "tilerelease",
            configuration = in(reg) &WHOLE_TILES,
            out = in(reg) out.as_mut_ptr(),
            last_out = in(reg) out[ROWS..].as_mut_ptr(),
            out_row = in(reg) size_of::<Products>(),
            vectors = inout(reg) vectors.as_ptr() => _,
            columns = in(reg) COLUMNS,
            panel = inout(reg) panel.as_ptr() => _,
            steps = inout(reg) width / COLUMNS => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
