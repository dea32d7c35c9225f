//! Writes GGUF files for tests, good ones and, since it checks nothing, bad ones.

/// A GGUF file in the making.
#[derive(Clone)]
pub(crate) struct GgufWriter {
    pub(crate) version: u32,
    pub(crate) alignment: usize,
    /// Added to the true number of tensors in the header.
    pub(crate) extra_tensors: u64,
    metadata: Vec<Vec<u8>>,
    tensors: Vec<Tensor>,
}

#[derive(Clone)]
struct Tensor {
    name: String,
    /// Outermost first.
    shape: Vec<u64>,
    ggml_type: u32,
    data: Vec<u8>,
    offset: Option<u64>,
}

pub(crate) const U32: u32 = 4;
pub(crate) const F32: u32 = 6;
pub(crate) const BOOL: u32 = 7;
pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;

pub(crate) fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

impl GgufWriter {
    pub(crate) fn new(architecture: &str) -> GgufWriter {
        let (metadata, tensors) = (Vec::new(), Vec::new());
        let mut writer = GgufWriter { version: 3, alignment: 32, extra_tensors: 0, metadata, tensors };
        writer.text("general.architecture", architecture);
        writer
    }

    /// A metadata entry of any type, by the bytes of its value.
    pub(crate) fn raw(&mut self, key: &str, value_type: u32, value: &[u8]) {
        self.metadata.push([&string(key.as_bytes())[..], &value_type.to_le_bytes(), value].concat());
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.raw(key, STRING, &string(value.as_bytes()));
    }

    pub(crate) fn u32(&mut self, key: &str, value: u32) {
        self.raw(key, U32, &value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, key: &str, value: f32) {
        self.raw(key, F32, &value.to_le_bytes());
    }

    pub(crate) fn texts(&mut self, key: &str, values: &[&str]) {
        let mut bytes = [&STRING.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
        bytes.extend(values.iter().flat_map(|value| string(value.as_bytes())));
        self.raw(key, ARRAY, &bytes);
    }

    /// An F32 tensor whose values count up from 0.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[u64]) {
        let data = (0..shape.iter().product()).flat_map(|i| (i as f32).to_le_bytes()).collect();
        self.tensor_of(name, shape, 0, data, None);
    }

    /// A tensor of any type, at an offset of choice or the next free one.
    pub(crate) fn tensor_of(
        &mut self,
        name: &str,
        shape: &[u64],
        ggml_type: u32,
        data: Vec<u8>,
        offset: Option<u64>,
    ) {
        self.tensors.push(Tensor { name: name.into(), shape: shape.into(), ggml_type, data, offset });
    }

    /// Takes a tensor away.
    pub(crate) fn without(mut self, name: &str) -> GgufWriter {
        self.tensors.retain(|tensor| tensor.name != name);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.tensors.len() as u64 + self.extra_tensors).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        bytes.extend(self.metadata.concat());
        let mut data = Vec::new();
        for tensor in &self.tensors {
            let offset = tensor.offset.unwrap_or(data.len() as u64);
            bytes.extend(string(tensor.name.as_bytes()));
            bytes.extend((tensor.shape.len() as u32).to_le_bytes());
            bytes.extend(tensor.shape.iter().rev().flat_map(|size| size.to_le_bytes()));
            bytes.extend(tensor.ggml_type.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            data.extend(&tensor.data);
            data.resize(data.len().next_multiple_of(self.alignment), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(data);
        bytes
    }
}
