// Answers, line by line, what @grafana/data makes of a case, and what its Prometheus data source makes of
// series: one JSON document in, one out.
'use strict';

globalThis.navigator = { language: 'en-US', languages: ['en-US'] };
console.warn = () => {};
console.error = () => {};

const path = require('path');
const data = require(require.resolve('@grafana/data', { paths: [path.resolve(process.argv[2])] }));
// Only now: with a window, a package of its styles would look for a document.
globalThis.window = { __grafanaSceneContext: {} };
const theme = data.createTheme();
// Asked by links of exemplars alone.
const Module = require('module');
const load = Module._load;
Module._load = (name, ...rest) => (name === '@grafana/runtime' ? {} : load(name, ...rest));
const prometheus = require(path.resolve(process.argv[2], 'node_modules/@grafana/prometheus/result_transformer.cjs'));

data.standardTransformersRegistry.setInit(() =>
  // Some are listed under two names.
  [...new Map(Object.values(data.standardTransformers).map((one) => [one.id, one])).values()].map((one) => ({
    id: one.id,
    aliasIds: one.aliasIds,
    name: one.name,
    transformation: async () => one,
  }))
);

// The options of a column that change what it shows, and which columns have them by default.
const setting = (id, shouldApply) => ({
  id,
  path: id,
  name: id,
  process: (value) => value,
  shouldApply,
});
const isNumber = (field) => field.type === 'number';
const settings = new data.FieldConfigOptionsRegistry(() => [
  setting('unit', () => true),
  setting('decimals', isNumber),
  setting('displayName', () => true),
  setting('noValue', () => true),
  setting('mappings', (field) => field.type !== 'time'),
]);

// JSON has no NaN, no infinities and no undefined.
function plain(value) {
  if (value === undefined) {
    return { $: 'undefined' };
  }
  if (typeof value === 'number' && !Number.isFinite(value)) {
    return { $: String(value) };
  }
  return Array.isArray(value) ? value.map(plain) : value;
}

function frameOf(frame) {
  return {
    name: frame.name || null,
    refId: frame.refId ?? null,
    length: frame.length,
    fields: frame.fields.map((field) => ({
      name: field.name,
      type: field.type,
      labels: field.labels ?? null,
      displayName: field.config.displayName ?? null,
      values: Array.from(field.values, plain),
    })),
  };
}

const framesOf = (list) => list.map((frame) => data.dataFrameFromJSON(frame));

async function transformed(ask) {
  const observed = data.transformDataFrame(ask.transformations ?? [], framesOf(ask.frames));
  return await new Promise((resolve, reject) => {
    let last;
    observed.subscribe({ next: (v) => (last = v), error: reject, complete: () => resolve(last) });
  });
}

const OPERATIONS = {
  format(ask) {
    const format = data.getValueFormat(ask.unit);
    return data.formattedValueToString(format(ask.value, ask.decimals));
  },
  reduce(ask) {
    const results = {};
    for (const reducer of ask.reducers) {
      const [frame] = framesOf([ask.frame]);
      const field = frame.fields[0];
      if (ask.nulls) {
        field.config.nullValueMode = ask.nulls;
      }
      results[reducer] = plain(data.reduceField({ field, reducers: [reducer] })[reducer]);
    }
    return results;
  },
  async transform(ask) {
    return (await transformed(ask)).map(frameOf);
  },
  async show(ask) {
    const series = data.applyFieldOverrides({
      data: await transformed(ask),
      fieldConfig: ask.fieldConfig,
      fieldConfigRegistry: settings,
      replaceVariables: (text) => text,
      theme,
      timeZone: 'utc',
    });
    const values = data.getFieldDisplayValues({
      fieldConfig: ask.fieldConfig,
      reduceOptions: ask.reduceOptions,
      replaceVariables: (text) => text,
      theme,
      data: series,
      timeZone: 'utc',
    });
    return values.map((value) => ({
      title: value.display.title ?? value.name,
      text: data.formattedValueToString(value.display),
    }));
  },
  prometheus(ask) {
    const answer = prometheus.transformV2({ data: framesOf(ask.frames) }, { targets: ask.queries }, {});
    // The browser takes what has a topic for annotations.
    const series = answer.data.filter((frame) => !frame.meta?.dataTopic);
    return series.map((frame) => {
      const names = frame.fields.map((field) => field.config.displayNameFromDS ?? null);
      return { ...frameOf(frame), names };
    });
  },
  interval(ask) {
    const range = { from: { valueOf: () => 0 }, to: { valueOf: () => ask.range } };
    const { interval, intervalMs } = data.rangeUtil.calculateInterval(range, ask.points, ask.least);
    return { interval, intervalMs };
  },
};

async function answer(line) {
  const ask = JSON.parse(line);
  if (ask.value && ask.value.$) {
    ask.value = Number(ask.value.$);
  }
  try {
    return { ok: await OPERATIONS[ask.op](ask) };
  } catch (error) {
    return { error: String(error) };
  }
}

(async () => {
  const lines = require('readline').createInterface({ input: process.stdin });
  for await (const line of lines) {
    process.stdout.write(JSON.stringify(await answer(line)) + '\n');
  }
})();
