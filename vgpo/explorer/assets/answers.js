// Questions with their answers: filters, search, more on demand.

const ANSWERS_AT_ONCE = 10;

// What a question is, for the filters; of several answers the first counts, which is
// the greedy one where there is one.
function answerStates(question) {
  const states = new Set();
  const first = question.answers.map((answers) => answers[0]);
  for (const answer of first) {
    if (!answer) continue;
    states.add(answer.right ? "right" : "wrong");
    if (answer.extracted === null) states.add("no answer");
    if (answer.finish === "length") states.add("cut off");
  }
  for (const answer of question.answers.flat()) {
    if (answer.recipe !== null && answer.recipe !== answer.right) states.add("graders differ");
  }
  if (first.length === 2 && first[0] && first[1] && first[0].right !== first[1].right) {
    states.add("changed");
    states.add(first[1].right ? "gained" : "lost");
  }
  return states;
}

function answerText(answer) {
  const verdict = answer.right ? "right" : "wrong";
  const told = [answer.name, verdict, `${answer.tokens} tokens`];
  if (answer.recipe !== null && answer.recipe !== answer.right) {
    told.push(`recipe's grader: ${answer.recipe ? "right" : "wrong"}`);
  }
  if (answer.finish === "length") told.push("cut off");
  return [
    element("p", { class: "vgpo-answers-head" },
      `${told.join(", ")}: `,
      element("strong", {}, answer.extracted === null ? "no boxed answer" : answer.extracted)),
    element("div", { class: `vgpo-answers-text ${verdict}`, tabindex: "0" },
      answer.text || "(nothing)"),
  ];
}

function answerCard(question, data) {
  const pictures = question.pictures.map((id) => data.pictures[id]
    ? element("img", { src: data.pictures[id], alt: "Picture of the question", loading: "lazy" })
    : element("p", {}, "(the picture was not kept)"));
  const columns = question.answers.map((answers, place) => {
    if (!answers.length) return null;
    const name = data.runs[place];
    const view = data.views[place];
    const title = view === "none" ? name : `${name}, ${view}`;
    const [first, ...more] = answers;
    const rest = more.length
      ? element("details", {}, element("summary", {}, `${more.length} more`),
          ...more.flatMap(answerText))
      : null;
    return element("div", {}, element("strong", {}, title), ...answerText(first), rest);
  });
  const two = question.answers.length === 2 ? " two" : "";
  return element("article", { class: "vgpo-answers-one" },
    element("div", {}, ...pictures,
      element("p", { class: "vgpo-answers-head" }, `${question.set}, row ${question.row}`)),
    element("div", {},
      element("p", { class: "vgpo-answers-question" }, withoutMarks(question.question)),
      element("p", { class: "vgpo-answers-head" }, "Reference: ",
        element("strong", {}, question.reference)),
      element("div", { class: `vgpo-answers-pair${two}` }, ...columns)));
}

// Pictures stand beside the question, so a mark at its beginning says nothing.
function withoutMarks(text) {
  return text.replace(/^(<image>\s*)+/, "").replaceAll("<image>", "[picture]");
}

function answerChoice(label, values, onchange) {
  const id = uniqueId("choice");
  const select = element("select", { id, onchange },
    ...values.map((value) => element("option", { value }, value)));
  return { select, label: element("label", { for: id }, label, select) };
}

function showAnswers(root, data) {
  const questions = data.questions.map((question) => ({
    question,
    states: answerStates(question),
    words: [question.question, question.reference,
      ...question.answers.flat().map((answer) => answer.text)].join("\n").toLowerCase(),
  }));
  const sets = [...new Set(questions.map((one) => one.question.set))];
  const order = ["right", "wrong", "changed", "gained", "lost", "no answer", "cut off",
    "graders differ"];
  const present = order.filter((state) => questions.some((one) => one.states.has(state)));
  let shown = ANSWERS_AT_ONCE;
  const list = element("div", { class: "vgpo-answers-list" });
  const count = element("p", { class: "vgpo-answers-count", role: "status" });
  const more = element("button", { type: "button", onclick: () => {
    shown += ANSWERS_AT_ONCE;
    draw();
  } }, "Show more");
  const restart = () => { shown = ANSWERS_AT_ONCE; draw(); };
  const bySet = answerChoice("Set", ["all", ...sets], restart);
  const byState = answerChoice("Answers", ["all", ...present], restart);
  const searchId = uniqueId("search");
  const search = element("input", { id: searchId, type: "search", oninput: restart });

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    const found = questions.filter((one) =>
      (bySet.select.value === "all" || one.question.set === bySet.select.value)
      && (byState.select.value === "all" || one.states.has(byState.select.value))
      && one.words.includes(wanted));
    const plural = questions.length === 1 ? "" : "s";
    count.textContent = `${found.length} of ${questions.length} question${plural}`;
    list.replaceChildren(
      ...found.slice(0, shown).map((one) => answerCard(one.question, data)));
    more.hidden = found.length <= shown;
  }

  root.append(
    element("div", { class: "vgpo-answers-bar" }, bySet.label, byState.label,
      element("label", { for: searchId }, "Search", search)),
    count, list, more);
  draw();
}
