// An SMSC on the npm package `smpp`: takes binds, answers submits with a hexadecimal id, and sends
// the receipt with the same id in decimal. Prints one JSON object a line; ends with its stdin.
'use strict';

const smpp = require('smpp');

const SYSTEM_ID = 'hikyaku';
const PASSWORD = 'secret';
let nextId = 0xab00;

const tell = (what) => process.stdout.write(JSON.stringify(what) + '\n');

function receipt(id, state) {
  const date = '2611220900';
  return `id:${id} sub:001 dlvrd:001 submit date:${date} done date:${date} stat:${state} err:000 text:`;
}

function bind(session, pdu) {
  const status = pdu.system_id !== SYSTEM_ID ? smpp.ESME_RINVSYSID
    : pdu.password !== PASSWORD ? smpp.ESME_RINVPASWD
      : smpp.ESME_ROK;
  tell({ event: 'bind', command: pdu.command, status });
  session.send(pdu.response({ command_status: status, system_id: 'node' }));
}

function submit(session, pdu) {
  if (pdu.destination_addr.endsWith('0001')) {
    session.send(pdu.response({ command_status: smpp.ESME_RINVDSTADR }));
    return;
  }
  const id = nextId++;
  const udh = pdu.short_message.udh;
  tell({
    event: 'submit',
    source: pdu.source_addr,
    destination: pdu.destination_addr,
    data_coding: pdu.data_coding,
    text: pdu.short_message.message,
    udh: udh ? Buffer.concat([].concat(udh)).toString('hex') : '',
  });
  session.send(pdu.response({ message_id: id.toString(16) }));
  if (pdu.registered_delivery & 1) {
    session.deliver_sm({
      source_addr: pdu.destination_addr,
      destination_addr: pdu.source_addr,
      esm_class: 4,
      short_message: receipt(id, 'DELIVRD'),
    }, (answer) => tell({ event: 'receipt_answer', status: answer.command_status }));
  }
}

const server = smpp.createServer((session) => {
  session.on('bind_transceiver', (pdu) => bind(session, pdu));
  session.on('bind_transmitter', (pdu) => bind(session, pdu));
  session.on('bind_receiver', (pdu) => bind(session, pdu));
  session.on('submit_sm', (pdu) => submit(session, pdu));
  session.on('enquire_link', (pdu) => session.send(pdu.response()));
  session.on('unbind', (pdu) => {
    tell({ event: 'unbind' });
    session.send(pdu.response());
    session.close();
  });
  session.on('error', (error) => tell({ event: 'error', error: String(error) }));
});

server.listen(0, '127.0.0.1', () => tell({ event: 'listening', port: server.address().port }));
process.stdin.on('end', () => process.exit(0));
process.stdin.resume();
