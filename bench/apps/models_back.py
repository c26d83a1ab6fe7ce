"""Answers with what it got: a model, or a dict that nobody looks into."""

from time import process_time

from models_order import Order


async def model(order: Order) -> Order:
    return order


async def plain(order):
    return order


def cpu():
    return process_time()


def model_in_turn(order: Order) -> Order:
    return order


def plain_in_turn(order):
    return order
