"""An ESME on the PyPI package `smpplib`: binds to a simulated carrier, sends one text in parts,
waits for as many receipts, unbinds. Prints one JSON object a line.

Usage: esme.py PORT DESTINATION TEXT
"""
import json
import sys

import smpplib.client
import smpplib.consts
import smpplib.gsm


def tell(**what):
    print(json.dumps(what), flush=True)


def main(port, destination, text):
    parts, coding, message_type = smpplib.gsm.make_parts(text)
    client = smpplib.client.Client("127.0.0.1", int(port), allow_unknown_opt_params=True, timeout=20)
    receipts = []

    def on_received(pdu):
        receipts.append(pdu.receipted_message_id)
        tell(event="receipt", id=pdu.receipted_message_id.decode(), state=pdu.message_state)

    client.set_message_sent_handler(
        lambda pdu: tell(event="answer", status=pdu.status, id=pdu.message_id.decode())
    )
    client.set_message_received_handler(on_received)
    client.connect()
    client.bind_transceiver(system_id="any", password="any")
    tell(event="bound")
    for part in parts:
        client.send_message(
            source_addr_ton=smpplib.consts.SMPP_TON_INTL,
            source_addr="0005123456",
            dest_addr_ton=smpplib.consts.SMPP_TON_INTL,
            dest_addr_npi=smpplib.consts.SMPP_NPI_ISDN,
            destination_addr=destination,
            short_message=part,
            data_coding=coding,
            esm_class=message_type,
            registered_delivery=True,
        )
    while len(receipts) < len(parts):
        client.read_once()
    client.unbind()
    client.disconnect()
    tell(event="done", parts=len(parts))


if __name__ == "__main__":
    main(*sys.argv[1:])
