//! Linking of an extension module, which finds the symbols of Python in the program that loads it.

fn main() {
    pyo3_build_config::add_extension_module_link_args();
}
