//! The decoder once more in plain loops over f64, straight from the formulas.

use std::path::Path;

use crate::config::LlamaConfig;
use crate::weights::Weights;

type Rows = Vec<Vec<f64>>;

pub(super) struct Reference {
    config: LlamaConfig,
    weights: Weights,
    window: usize,
}

impl Reference {
    pub(super) fn load(dir: &Path) -> Self {
        Self { config: LlamaConfig::load(dir).unwrap(), weights: Weights::open(dir).unwrap(), window: usize::MAX }
    }

    pub(super) fn with_window(self, window: usize) -> Self {
        Self { window, ..self }
    }

    pub(super) fn logits(&self, tokens: &[u32]) -> Rows {
        let embedding = self.table("model.embed_tokens.weight");
        let mut stream: Rows = tokens.iter().map(|token| embedding[*token as usize].clone()).collect();
        for layer in 0..self.config.layers {
            self.attention(layer, &mut stream);
            self.feed_forward(layer, &mut stream);
        }
        let norm = self.table("model.norm.weight");
        let head = if self.config.tied { embedding } else { self.table("lm_head.weight") };
        stream.iter().map(|row| apply(&head, &self.norm(row, &norm[0]))).collect()
    }

    fn attention(&self, layer: usize, stream: &mut Rows) {
        let scale = self.part(layer, "input_layernorm");
        let normed: Rows = stream.iter().map(|row| self.norm(row, &scale[0])).collect();
        let project = |name: &str| -> Rows {
            let weight = self.part(layer, name);
            normed.iter().map(|row| apply(&weight, row)).collect()
        };
        let turn = |rows: Rows| -> Rows { rows.iter().enumerate().map(|(at, row)| self.rotate(row, at)).collect() };
        let (queries, keys) = (turn(project("self_attn.q_proj")), turn(project("self_attn.k_proj")));
        let (values, output) = (project("self_attn.v_proj"), self.part(layer, "self_attn.o_proj"));
        for (at, row) in stream.iter_mut().enumerate() {
            let seen = (at + 1).saturating_sub(self.window)..at + 1;
            let (keys, values) = (&keys[seen.clone()], &values[seen]);
            let heads = (0..self.config.heads).flat_map(|head| self.head(head, &queries[at], keys, values));
            add(row, &apply(&output, &heads.collect::<Vec<_>>()));
        }
    }

    fn head(&self, head: usize, query: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>]) -> Vec<f64> {
        let dim = self.config.head_dim;
        let (own, shared) = (head * dim, head / (self.config.heads / self.config.kv_heads) * dim);
        let score = |key: &Vec<f64>| dot(&query[own..own + dim], &key[shared..shared + dim]) / (dim as f64).sqrt();
        let weights: Vec<f64> = keys.iter().map(|key| score(key).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mixed =
            |at: usize| weights.iter().zip(values).map(|(weight, value)| weight * value[at]).sum::<f64>() / total;
        (shared..shared + dim).map(mixed).collect()
    }

    fn feed_forward(&self, layer: usize, stream: &mut Rows) {
        let part = |name: &str| self.part(layer, name);
        let (scale, gate) = (part("post_attention_layernorm"), part("mlp.gate_proj"));
        let (up, down) = (part("mlp.up_proj"), part("mlp.down_proj"));
        for row in stream {
            let normed = self.norm(row, &scale[0]);
            let gated = apply(&gate, &normed).into_iter().zip(apply(&up, &normed));
            let gated: Vec<f64> = gated.map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
            add(row, &apply(&down, &gated));
        }
    }

    fn rotate(&self, row: &[f64], position: usize) -> Vec<f64> {
        let (dim, half) = (self.config.head_dim, self.config.head_dim / 2);
        let mut rotated = row.to_vec();
        for start in (0..row.len()).step_by(dim) {
            for (pair, frequency) in self.config.rope.inverse_frequencies(dim).into_iter().enumerate() {
                let (sin, cos) = (position as f64 * f64::from(frequency)).sin_cos();
                let (x, y) = (row[start + pair], row[start + half + pair]);
                rotated[start + pair] = x * cos - y * sin;
                rotated[start + half + pair] = y * cos + x * sin;
            }
        }
        rotated
    }

    fn norm(&self, row: &[f64], scale: &[f64]) -> Vec<f64> {
        let root = (dot(row, row) / row.len() as f64 + self.config.rms_norm_eps).sqrt();
        row.iter().zip(scale).map(|(value, scale)| value / root * scale).collect()
    }

    fn part(&self, layer: usize, name: &str) -> Rows {
        self.table(&format!("model.layers.{layer}.{name}.weight"))
    }

    /// A matrix, or a vector as a matrix of one row.
    fn table(&self, name: &str) -> Rows {
        let tensor = self.weights.load_any_shape(name).unwrap();
        let columns = *tensor.dims().last().unwrap();
        let rows: Vec<Vec<f32>> = tensor.reshape(((), columns)).unwrap().to_vec2().unwrap();
        rows.into_iter().map(|row| row.into_iter().map(f64::from).collect()).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn apply(weight: &Rows, row: &[f64]) -> Vec<f64> {
    weight.iter().map(|weights| dot(weights, row)).collect()
}

fn add(row: &mut [f64], other: &[f64]) {
    row.iter_mut().zip(other).for_each(|(value, added)| *value += added);
}
