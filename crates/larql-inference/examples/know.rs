use std::ops::ControlFlow;
use std::sync::Arc;
use larql_compute::Pool;
use larql_inference::{*, facts::Facts, probe::*, eval::knowledge::*};
use larql_vindex::Vindex;
struct W(std::collections::HashMap<(String,String),ProbedQuestion>, std::fs::File, std::time::Instant);
impl ProbeWatcher for W {
    fn step(&mut self, s: ProbeStage, d: usize, t: usize) -> ControlFlow<()> { if d % 200 == 0 { eprintln!("{s:?} {d}/{t} {:.1}s", self.2.elapsed().as_secs_f64()); } ControlFlow::Continue(()) }
    fn earlier(&mut self, r: &str, s: &str) -> Option<ProbedQuestion> { self.0.get(&(r.into(), s.into())).cloned() }
    fn keep(&mut self, f: &ProbedQuestion) -> std::io::Result<()> { use std::io::Write; writeln!(self.1, "{}", serde_json::to_string(f).unwrap()) }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let vindex = Vindex::open(args[1].as_ref()).unwrap();
    let journal = format!("{}.journal", args[1]);
    let mut seen = std::collections::HashMap::new();
    if let Ok(t) = std::fs::read_to_string(&journal) { for l in t.lines() { let q: ProbedQuestion = serde_json::from_str(l).unwrap(); seen.insert((q.relation.clone(), q.subject.clone()), q); } }
    let f = std::fs::OpenOptions::new().append(true).create(true).open(&journal).unwrap();
    let mut w = W(seen, f, std::time::Instant::now());
    let pool = Arc::new(Pool::for_this_machine());
    let language = LanguageModel::of_vindex(&vindex, pool).unwrap();
    let facts = Facts::shipped().unwrap();
    let options = ProbeOptions { hold_out: args[2].parse().unwrap(), ..Default::default() };
    let (model, tokenizer) = (language.model(), language.tokenizer());
    let probed = probe::probe(model, tokenizer, &facts, &options, &mut w).unwrap();
    println!("probed: {} asked {} right {} labels; {:?}; {:.1}s", probed.asked, probed.right, probed.labels.len(), probed.relations.belief, w.2.elapsed().as_secs_f64());
    for r in &probed.relations.relations { println!("  {} {:?} labels {} {:?}", r.name, r.record.total, probed.labels.iter().filter(|l| l.relation == r.name).count(), r.templates); }
    for l in probed.labels.iter().take(20) { println!("    {l:?}"); }
    let subjects = probed_subjects(&facts, &options);
    let test = facts.filtered(|f| !subjects.contains(&f.subject));
    let known = known_facts(model, tokenizer, &test, |_, _| ControlFlow::Continue(())).unwrap();
    println!("known {} {:.1}s", known.len(), w.2.elapsed().as_secs_f64());
    let rates = ResidualRates::measure(model, &vindex, tokenizer).unwrap();
    let band = vindex.manifest().bands().knowledge.layers();
    let reader = Reader { model, store: &vindex, tokenizer, rates: &rates, relations: Some(&probed.relations) };
    let best = |e: &str| reader.edges(e, band.clone(), Way::Best, 20);
    let ctx = |e: &str| reader.edges(e, band.clone(), Way::Contextual, 20);
    let res = |e: &str| reader.edges(e, band.clone(), Way::Residual, 20);
    let att = |e: &str| reader.edges(e, band.clone(), Way::Attribution, 20);
    let words = written_words(&vindex, tokenizer, band.clone());
    let scores = score(&test, &known, &[("best", &best), ("contextual", &ctx), ("residual", &res), ("attribution", &att)], &words, |_, _| ControlFlow::Continue(())).unwrap();
    for s in scores { println!("{:16} known {:4}/{:4} {} relacc {:?} labelp {}/{} ceil {}/{}", s.relation, s.known.hits, s.known.of,
        s.recall.iter().map(|(n, r)| format!("{n} {}/{}", r.hits, r.of)).collect::<Vec<_>>().join(" "), s.relation_accuracy.value(), s.label_precision.hits, s.label_precision.of, s.ceiling.hits, s.ceiling.of); }
    println!("{:.1}s", w.2.elapsed().as_secs_f64());
    for e in ["France", "Vanuatu", "oxygen", "hot", "March", "Tokyo"] { println!("{e}"); for d in best(e).unwrap().iter().take(10) { println!("   {:?} {} {:?} L{} F{} gate {:.2} via {}", d.relation, d.target, d.confidence, d.layer, d.feature, d.gate, d.via.name()); } }
    let ten: Vec<&str> = ["France","Japan","oxygen","hot","March","Tokyo"].to_vec();
    for way in [Way::Best, Way::Contextual, Way::Residual, Way::Attribution] { println!("{way:?} {:.1} ms", describe_seconds(&reader, &ten, band.clone(), way).unwrap()*1e3); }
}
